"""Still images and their masks: COCO annotations, mask folders, and a common source interface."""
