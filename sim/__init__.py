"""The world: everything that pretends to be nature or a radio. `testbed` never imports it; they meet at a socket."""
