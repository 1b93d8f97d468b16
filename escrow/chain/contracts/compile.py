"""Compile the contracts into the committed artefacts: `python -m escrow.chain.contracts.compile`."""

import json
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent
ARTEFACTS = SOURCES / "artefacts"
NAMES = ("DepositForwarder", "DepositFactory", "TestUSDC")


def compiled(name: str) -> dict[str, Any]:
    """The artefact of a contract from its source: abi, creation code and, for cloning by a factory, its blueprint."""
    import vyper  # a second to import, and only a developer or a test compiles

    source = (SOURCES / f"{name}.vy").read_text()
    output = vyper.compile_code(source, output_formats=["abi", "bytecode", "blueprint_bytecode"])
    return {
        "contract": name,
        "compiler": f"vyper {vyper.__version__.split('+')[0]}",
        "abi": output["abi"],
        "bytecode": output["bytecode"],
        "blueprint_bytecode": output["blueprint_bytecode"],
    }


def main() -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    for name in NAMES:
        (ARTEFACTS / f"{name}.json").write_text(json.dumps(compiled(name), indent=1) + "\n")


if __name__ == "__main__":
    main()
