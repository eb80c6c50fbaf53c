"""Trees of empty files, to test how data sets are listed."""


def touch(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def numbered(count, suffix, step=1):
    return [f"{step * i:05d}.{suffix}" for i in range(count)]
