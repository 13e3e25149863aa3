"""The answers of a batch transform job, joined to its pictures in a table."""

import csv
from collections.abc import Iterable
from pathlib import Path

from kennel.atomic import replacing
from kennel_cli.prediction.answers import Answer, PredictionError, read_answer

ENDING = ".out"  # of an answer's name, after its picture's (contract C4.4)
_NO_ANSWER = "no answer"


def join_answers(pictures: Iterable[str], folder: Path) -> dict[str, Answer | str]:
    """Return for each picture its answer, or why there is none.

    `folder` holds the answers under their pictures' names with `.out` after them, or, as some prefixes come out, under
    the last parts of these names or with more folders before them.
    """
    files = {file.relative_to(folder).as_posix().removesuffix(ENDING): file for file in folder.rglob(f"*{ENDING}")}
    by_name: dict[str, list[str]] = {}
    for name in files:
        by_name.setdefault(Path(name).name, []).append(name)

    def find(picture: str) -> Path | None:
        if picture in files:
            return files[picture]
        alike = [
            name
            for name in by_name.get(Path(picture).name, ())
            if f"/{name}".endswith(f"/{picture}") or f"/{picture}".endswith(f"/{name}")
        ]
        return files[alike[0]] if len(alike) == 1 else None

    return {picture: _read(find(picture)) for picture in pictures}


def write_table(answers: dict[str, Answer | str], top_k: int, file: Path) -> None:
    """Write a CSV file: a line a picture, its `top_k` classes with their probabilities, and what went wrong."""
    ranks = [f"_{rank}" if rank > 1 else "" for rank in range(1, top_k + 1)]
    header = ["picture", *(f"{column}{rank}" for rank in ranks for column in ("label", "probability")), "error"]
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header, restval="")
        writer.writeheader()
        for picture, answer in answers.items():
            line: dict[str, object] = {"picture": picture}
            if isinstance(answer, str):
                line["error"] = answer
            else:
                for rank, prediction in zip(ranks, answer.predictions, strict=False):  # a model may have fewer classes
                    line[f"label{rank}"] = prediction.label
                    line[f"probability{rank}"] = f"{prediction.probability:.6f}"
            writer.writerow(line)


def _read(file: Path | None) -> Answer | str:
    if file is None:
        return _NO_ANSWER
    try:
        return read_answer(file.read_bytes())
    except PredictionError as error:
        return str(error)
