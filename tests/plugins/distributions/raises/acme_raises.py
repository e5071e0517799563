raise RuntimeError("no license for this machine")
