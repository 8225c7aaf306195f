"""One parser under Atheris (libFuzzer): python -m tests.property.fuzz PARSER SECONDS CORPUS_FOLDER.

Ends with 0 where nothing but a `HansaError` left the parser, otherwise with libFuzzer's own code and the input.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one parser for some seconds, from its seeds on."""
    import atheris

    with atheris.instrument_imports(
        include=["clients.ingest", "clients.vault", "clients.anonymise", "common"]
    ):
        from tests.property.parsers import PARSERS
    parser = PARSERS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(parser.seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-max_len=16384", "-rss_limit_mb=2048", "-timeout=20"]
    limits += ["-print_final_stats=1", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], parser.try_on)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
