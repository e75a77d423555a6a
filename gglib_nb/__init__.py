"""GGUF models from the Hugging Face Hub, in a notebook."""
