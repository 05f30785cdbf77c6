"""The machinery of every stage, which knows no op: interned nodes, walks, grammars, text, passes."""
