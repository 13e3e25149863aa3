"""Packages small enough to be made for a test."""

import zipfile


def write_wheel(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-1.5-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "VERSION = '1.5'\n")
        archive.writestr(f"{name}-1.5.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{name}-1.5.dist-info/WHEEL", wheel)
        archive.writestr(f"{name}-1.5.dist-info/RECORD", "")
    return file
