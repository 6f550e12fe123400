"""Who else hears of each epoch: TensorBoard's event files, and an MLflow server."""
