"""From captured samples to synchronisation, detections and measurements."""
