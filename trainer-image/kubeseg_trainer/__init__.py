"""The trainer: trains one network from a configuration and a workspace, with or without Kubernetes.

`engine` is the loop, checkpoints, metrics and reports, and knows nothing of what is trained;
`tasks.segmentation` is the first task.
"""
