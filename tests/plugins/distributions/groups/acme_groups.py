raise BaseExceptionGroup("two at once", [SystemExit(1), ValueError("bad")])
