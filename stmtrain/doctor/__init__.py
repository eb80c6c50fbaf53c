"""What this machine, its folders and a data set need before work begins, each with a cure."""
