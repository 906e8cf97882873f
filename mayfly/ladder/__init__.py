"""Where a VM may be had, in which order to ask, and what each answer means. Pure: no calls."""
