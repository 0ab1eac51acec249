"""The verbs of `isac`, a file per group. Heavy imports stand inside the verbs, so that help answers at once."""
