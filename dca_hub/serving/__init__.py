"""What `dca-hub serve` does, and the client of a server; what runs inside vLLM is `dca_hub.vllm_plugin`."""
