"""Video -> facesets -> trained models. torch lives in the rooms that train; facesets and extraction do without."""
