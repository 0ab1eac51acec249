"""One self-contained HTML report per run: verdict first, then the curves, tables and provenance behind it."""
