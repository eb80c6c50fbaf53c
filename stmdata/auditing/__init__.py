"""What is wrong with the content of data sets, found before training. Runs on the lean install."""
