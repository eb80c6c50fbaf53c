"""Where the image of an annotation is, however the annotation tool wrote its path.

Tools write paths of Windows, absolute paths, URLs, and folders of their own projects in front. Of
all these, the last folders and the file name count; a path never leads out of the images folder.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from stmtrain.errors import DataError

_DEEPEST = 32
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|/data/local-files/\?", re.IGNORECASE)


def path_parts(name: str) -> tuple[str, ...]:
    r"""Return the folders and the file name of a path or URL; ``..`` and the like are left out.

    Example:
        >>> path_parts(r"C:\data\a.jpg"), path_parts("/data/local-files/?d=sub/a%20b.jpg")
        (('C:', 'data', 'a.jpg'), ('sub', 'a b.jpg'))
    """
    if _URL.match(name):
        url = urlsplit(name)
        name = parse_qs(url.query).get("d", [unquote(url.path)])[0]
    return tuple(part for part in re.split(r"[\\/]+", name) if part not in ("", ".", ".."))


def unique_tails(names: Sequence[str]) -> list[int]:
    """Return how many parts at the end of each name are needed to tell it from all others.

    Returns:
        At least 1 each; all parts, at most 255, where a name ends another, or is very deep.
    """
    parts = [path_parts(name) for name in names]
    tails = [min(max(1, len(p)), 255) for p in parts]
    open_names = list(range(len(parts)))
    for length in range(1, _DEEPEST):
        count = Counter(parts[i][-length:] for i in open_names)
        for i in open_names:
            if count[parts[i][-length:]] == 1:
                tails[i] = min(tails[i], length)
        open_names = [i for i in open_names if count[parts[i][-length:]] > 1]
        if not open_names:
            break
    return tails


def find_image(folder: Path, file_name: str, tail: int, image: str) -> Path:
    """Find the file of an image inside the images folder.

    The folders that ``file_name`` begins with may be absent on disk, as long as the rest tells the
    image from all others, or if they end with the name of ``folder``: LVIS names
    ``train2017/0001.jpg``, which is in COCO's ``train2017``.

    Args:
        folder: The images folder.
        file_name: As annotated.
        tail: Fewest parts that name this image and no other: :func:`unique_tails`.
        image: Name of the image in error messages.

    Raises:
        DataError: There is no such file.
    """
    own_name = folder.absolute().name
    written = [path_parts(file_name)]
    if "%" in file_name:
        written.append(path_parts(unquote(file_name)))
    for parts in written:
        for cut in range(len(parts)):
            if cut and len(parts) - cut < tail and parts[cut - 1] != own_name:
                continue
            place = folder.joinpath(*parts[cut:])
            if _is_file(place):
                return place
    place = folder.joinpath(*written[0])
    raise DataError(f"{place}: image {image} is missing{_hint(folder, place)}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def _hint(folder: Path, place: Path) -> str:
    """Say what to do, by what there is under a similar name."""
    for near in (place.parent, folder):
        if _is_file(near / place.name):
            return (
                f'; "{place.name}" is there, but several images have this name: arrange the '
                f"folders in {folder} as in the annotations"
            )
        try:
            similar = [p.name for p in near.iterdir() if p.stem.lower() == place.stem.lower()]
        except (OSError, ValueError):
            continue
        if similar:
            return f'; there is "{min(similar)}", rename one of them'
    return f"; check the images folder {folder}"
