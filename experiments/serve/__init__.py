"""An exported folder behind OpenAI's wire: answers with a measured confidence, and a large model where a gate says."""
