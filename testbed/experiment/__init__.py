"""Where radio, sensing and allocation meet: the experiment file, its budget, its captures and its report."""
