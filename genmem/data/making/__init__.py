"""From a source to a prepared set: pictures in, encoders fitted, shards and manifests out."""
