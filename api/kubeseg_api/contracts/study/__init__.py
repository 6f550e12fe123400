"""The contract of the "Study" service: query parameters in, `AnswerDate` in every reply."""
