class DataError(Exception): ...


def find_source(x):
    raise DataError("todo")


def garments(folder):
    return None
