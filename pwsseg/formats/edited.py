"""Label files that people edited, each named after its case, as `pwsseg export` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pwsseg.formats.found import Fault, Named, nifti_files, one_a_case, stem
from pwsseg.values import InputError


def find_edited(given: Sequence[Path], case: str | None = None) -> tuple[dict[str, Path], list[Fault]]:
    """The edited file of each case among files and folders; `case` names that of a single file.

    A file whose name is no case id, and two files of one case, are faults. InputError when a folder holds no
    NIfTI file, or `case` is given with several files.
    """
    files = [f for path in given for f in _files(path)]
    if case is not None and len(files) != 1:
        raise InputError(
            f"--case {case} was given with {len(files)} files, expected one; name each after its case"
        )
    faults: list[Fault] = []
    entries: list[Named] = [(case or stem(f), f) for f in files]
    found = one_a_case(entries, faults)
    doubled = {f.case for f in faults}
    return {c: path for c, path in sorted(found.items()) if c not in doubled}, faults


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = nifti_files(path)
    if not files:
        raise InputError(f"{path} holds no label file (.nii, .nii.gz); give the folder of the edited files")
    return files
