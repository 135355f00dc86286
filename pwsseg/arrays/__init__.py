"""Arrays in, arrays out: the computing rooms know no files, no store and no cluster."""
