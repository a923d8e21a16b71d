"""What lies on the disk: tars, an index beside them, a manifest. Written, read and checked strictly."""
