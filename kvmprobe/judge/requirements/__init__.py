"""Requirements: what `--require` asks of the evidence, beyond whether KVM can use SVM. Imported when asked."""
