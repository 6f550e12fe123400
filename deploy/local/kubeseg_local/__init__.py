"""The embedded cluster: a real Kubernetes whose containers are processes of this machine."""
