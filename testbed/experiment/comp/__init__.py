"""CoMP: detection against power, and power by measured SINRs, over the network that every experiment shares."""
