"""The container runtime behind the kubelet (CRI over gRPC): a container is a process."""
