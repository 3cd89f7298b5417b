"""The pages that people look at: where the links of mails lead."""
