"""Print the files of a folder that are no Swift or no Dart: there is no compiler of these on PyPI, npm or in Debian."""

import sys
from pathlib import Path

import tree_sitter_dart_orchard
import tree_sitter_swift
from tree_sitter import Language, Parser

PARSERS = {
    ".swift": Parser(Language(tree_sitter_swift.language())),
    ".dart": Parser(Language(tree_sitter_dart_orchard.language())),
}
for file in sorted(Path(sys.argv[1]).rglob("*")):
    if file.suffix in PARSERS and PARSERS[file.suffix].parse(file.read_bytes()).root_node.has_error:
        print(file)
