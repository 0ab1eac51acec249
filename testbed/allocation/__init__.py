"""Power allocations: values that say how much every node transmits, and why."""
