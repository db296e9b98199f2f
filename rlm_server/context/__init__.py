"""The context: sources become one corpus on disk, mapped and never copied into a prompt."""
