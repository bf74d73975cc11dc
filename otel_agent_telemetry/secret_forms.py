"""Secrets that are known by their form alone, as data: the tokens of vendors, by how they begin.

A row says whose token it is, how it begins and what follows. The pattern that finds them and
the signs that are looked for first are both made from these rows (`secret_patterns`), so that
no form can be left out by its own sign.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Body = Literal["letters", "capitals", "small", "hex", "word", "dotted", "base64", "words"]
"""What follows a prefix: letters and digits; digits and capitals, or small letters; hex digits; `letters` with `-` and
`_`, and with dots; base64; `word` where plain words (`sk-learn-tutorial`) begin alike: a random part is needed."""


class TokenForm(NamedTuple):
    """How the tokens of one issuer look: one of the prefixes, then at least `least` characters of a body."""

    issuer: str
    prefixes: tuple[str, ...]
    body: Body = "letters"
    least: int = 16
    exact: bool = False
    """Whether upper and lower case count: the prefix alone is a word, or a part of one."""


TOKEN_FORMS: Final = (
    TokenForm("OpenAI, Anthropic, OpenRouter, DeepSeek, LangFuse", ("sk-",), "words"),
    TokenForm("OpenAI sessions", ("sess-",), least=24),
    TokenForm("GitHub", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    TokenForm("GitHub, fine-grained", ("github_pat_",), "word"),
    TokenForm(
        "GitLab", ("glpat-", "glrt-", "gldt-", "glcbt-", "glptt-", "glft-", "glsoat-", "glimt-", "gloas-"), "dotted"
    ),
    TokenForm("GitLab agents", ("glagent-", "glffct-", "glwt-", "glrtr-"), "dotted"),
    TokenForm("Slack", ("xoxa-", "xoxb-", "xoxc-", "xoxd-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-"), "dotted", 10),
    TokenForm("Slack apps", ("xapp-", "xoxe.", "xwfp-"), "dotted", 10),
    TokenForm("GitLab runners, older", ("GR1348941",), "word", exact=True),
    TokenForm("AWS", ("A3T", "AKIA", "ASIA", "ABIA", "ACCA"), "capitals", exact=True),
    TokenForm("Google API", ("AIza",), "word", 24, exact=True),
    TokenForm("Google OAuth", ("GOCSPX-", "ya29."), "word"),
    TokenForm("Stripe", ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "sk_org_"), least=10),
    TokenForm("webhook secrets", ("whsec_",), "base64", 10),
    TokenForm("Hugging Face", ("hf_", "api_org_")),
    TokenForm("Groq, xAI, Perplexity, Cerebras", ("gsk_", "xai-", "pplx-", "csk-")),
    TokenForm("Replicate, Fireworks, Jina, Tavily", ("r8_", "fw_", "jina_", "tvly-"), "words"),
    TokenForm("Pinecone, NVIDIA, RunPod, E2B", ("pcsk_", "nvapi-", "rpa_", "e2b_"), "words"),
    TokenForm("LangSmith", ("lsv2_pt_", "lsv2_sk_", "lsv2_"), "word"),
    TokenForm("LangSmith, older", ("ls__",)),
    TokenForm("npm, RubyGems", ("npm_", "rubygems_")),
    TokenForm("PyPI", ("pypi-",), "words"),
    TokenForm("SendGrid", ("SG.",), "dotted", 24, exact=True),
    TokenForm("HashiCorp Vault", ("hvs.", "hvb.", "hvr."), "word"),
    TokenForm("DigitalOcean", ("dop_v1_", "doo_v1_", "dor_v1_")),
    TokenForm("Linear, Notion", ("lin_api_", "lin_oauth_", "ntn_")),
    TokenForm("Notion, older", ("secret_",), least=32),
    TokenForm("Shopify", ("shpat_", "shpca_", "shppa_", "shpss_")),
    TokenForm("Square", ("sq0atp-", "sq0csp-", "sq0idp-"), "word"),
    TokenForm("Square, Facebook", ("EAAA", "EAAC"), "word", 40, exact=True),
    TokenForm("Twilio", ("AC", "SK"), "small", 32, exact=True),
    TokenForm("Mailgun, Postman, Contentful", ("key-", "PMAK-", "CFPAT-"), "words", 24),
    TokenForm("Brevo", ("xkeysib-", "xsmtpsib-"), "word"),
    TokenForm("Atlassian", ("ATATT3", "ATCTT3", "ATBB"), "base64", 20, exact=True),
    TokenForm("Databricks", ("dapi",), "hex", 32),
    TokenForm("Supabase", ("sbp_", "sb_secret_"), "words"),
    TokenForm("Fly", ("fo1_", "fm1r_", "fm1a_", "fm2_"), "base64"),
    TokenForm("Doppler", ("dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.scim.", "dp.audit."), "dotted"),
    TokenForm("1Password", ("ops_eyJ",), "base64"),
    TokenForm("age", ("AGE-SECRET-KEY-1",)),
    TokenForm("New Relic", ("NRAK-", "NRII-", "NRJS-", "NRSP-", "NRRA-"), "words"),
    TokenForm("Grafana", ("glc_eyJ", "glsa_"), "word"),
    TokenForm("Sentry", ("sntrys_", "sntryu_", "sntrya_"), "base64"),
    TokenForm("PostHog, Figma, Vercel, Netlify, Render", ("phx_", "figd_", "vcp_", "nfp_", "rnd_"), "words"),
    TokenForm("Docker", ("dckr_pat_", "dckr_oat_"), "word"),
    TokenForm("PlanetScale", ("pscale_tkn_", "pscale_pw_", "pscale_oauth_"), "dotted"),
    TokenForm("Tailscale, Pulumi, Heroku", ("tskey-", "pul-", "HRKU-"), "words"),
    TokenForm("SonarQube", ("squ_", "sqp_", "sqa_"), least=32),
    TokenForm("Artifactory", ("AKCp",), least=20, exact=True),
    TokenForm("Dropbox, Mapbox", ("sl.", "sk.eyJ"), "dotted", 40),
    TokenForm("Prefect, Apify, Razorpay", ("pnu_", "pnb_", "apify_api_", "rzp_live_"), least=14),
    TokenForm("EasyPost", ("EZAK", "EZTK"), least=40, exact=True),
    TokenForm("Dynatrace", ("dt0c01.", "dt0s16."), "dotted"),
    TokenForm("Duffel, Shippo, Flutterwave", ("duffel_live_", "duffel_test_", "shippo_live_", "flwseck_"), "word"),
    TokenForm("Amazon Marketplace", ("amzn.mws.",), "word"),
    TokenForm("OpenShift", ("sha256~",), "word", 40),
    TokenForm("Cloudflare", ("cfut_", "cfat_", "cfk_"), "word", 32),
    TokenForm("Cloudflare's origin certificates", ("v1.0-",), "word", 150),
)
