"""Looking at clips: what is shown, how a terminal shows it, playing it, saving it; no torch."""
