"""Stage 1, what the user asked: primitives, a row each, and the checked constructors of their nodes."""
