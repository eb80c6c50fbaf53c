"""Videos of every data set, from trees on disk or from shards; free of torch."""
