"""The model half: torch, numpy and transformers. No Spark and no MLflow, so it runs where there is no JVM."""
