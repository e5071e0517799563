class SpitefulError(Exception):
    def __str__(self):
        raise RuntimeError("not even that")


raise SpitefulError
