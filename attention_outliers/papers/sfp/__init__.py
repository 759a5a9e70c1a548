"""SFP (Jin et al., ICCV 2025): tables, figures and claims."""
