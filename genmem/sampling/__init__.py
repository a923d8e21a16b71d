"""From a trained network to samples: sample i of seed s is the same however it is batched."""
