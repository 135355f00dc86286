"""One Ray pipeline a file: ingest, fuse, prepare, train, predict, evaluate. The only room that knows Ray."""
