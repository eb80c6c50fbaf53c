"""The offline side: data sets in, shards out; no torch anywhere."""
