"""The Hugging Face Hub: publishing and downloading model folders, polling a branch, model cards."""
