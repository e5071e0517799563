raise ValueError("\x1b[2J\x1b[31mred\a\n" + "and so on " * 1000)
