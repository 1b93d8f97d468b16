"""
Settings, read from the environment by django-environ.

Every secret may come as `NAME` or, better, as `NAME_FILE`: the path of a file that holds it.
Amounts are decimal USDC in the environment and micro-USDC (`*_UNITS`) here.
"""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import environ

from config.guards import refuse_unsafe_production

BASE_DIR = Path(__file__).resolve().parent.parent


class Files(environ.fileaware_mapping.FileAwareMapping):
    """The environment, where `NAME_FILE` names the file of `NAME`; the line end that editors add is not part of it."""

    def __getitem__(self, key: str) -> str:
        return super().__getitem__(key).rstrip("\r\n")


class Env(environ.FileAwareEnv):
    ENVIRON = Files()


env = Env()

BAILEE_ENV = env.str("BAILEE_ENV", default="local")
LOCAL = BAILEE_ENV == "local"
# Which of the processes of architecture.md this is: only `treasury` may import keys.
BAILEE_PROCESS = env.str("BAILEE_PROCESS", default="")
STATE_DIR = Path(env.str("STATE_DIR", default=str(BASE_DIR / ".local"))).resolve()

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="local-secret-key-that-production-refuses" if LOCAL else "")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
TOKEN_PEPPER = env.str("TOKEN_PEPPER", default="local-token-pepper" if LOCAL else "")
# Signs case packs (accounts/documents.py): base64url of 32 bytes. Earlier public keys stay published.
DOCUMENT_KEY = env.str("DOCUMENT_KEY", default="local-document-key-that-production-refusesA" if LOCAL else "")
DOCUMENT_EARLIER_PUBLIC_KEYS = env.list("DOCUMENT_EARLIER_PUBLIC_KEYS", default=[])
# The secrets of webhook endpoints are derived from it (accounts/events/secrets.py), so none is stored.
WEBHOOK_KEY = env.str("WEBHOOK_KEY", default="local-webhook-key" if LOCAL else "")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", "testserver"] if LOCAL else [])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
DOMAIN = env.str("DOMAIN", default="localhost" if LOCAL else "")
# How many proxies of ours stand before the web process: the client is X-Forwarded-For[-TRUSTED_PROXIES].
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0 if LOCAL else None)

# --- apps -----------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "disputes.console.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "csp",
    "pgtrigger",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "axes",
    "accounts",
    "escrow",
    "marketplace",
    "disputes",
    "config",
]
MIDDLEWARE = [
    "accounts.edge.requests.RequestId",
    "accounts.edge.origins.Origin",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- database, cache, queue -----------------------------------------------------------------------------------------
DATABASES = {"default": env.db_url("DATABASE_URL", default="postgres://postgres@127.0.0.1:5432/bailee")}
DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
DATABASES["default"].setdefault("OPTIONS", {})
if BAILEE_PROCESS == "web":
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": env.int("DATABASE_POOL", default=8),
        "timeout": 10,
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
# A write transaction that lingers would hold back the event cursor and everyone who waits for its locks.
DATABASES["default"]["OPTIONS"]["options"] = (
    "-c idle_in_transaction_session_timeout=5000 -c lock_timeout=10000 -c timezone=UTC"
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }
}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 120,
    "unacked_restore_interval": 10,
    "socket_connect_timeout": 2,
    "max_retries": 0,
}
# A doorbell that cannot ring must not hold the request that rang it: no second try, here and in the options above.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BEAT_SCHEDULER = "config.beat:Beat"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_TIMEZONE = "UTC"
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- people ---------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/admin/login/"
# Only people sign in here: agents bring a token, which no backend sees.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
OTP_TOTP_ISSUER = "Bailee"
# So many wrong tries under one name from one address close it to both for a while. Rows, because Redis may be lost.
AXES_FAILURE_LIMIT = env.int("SIGN_IN_FAILURES", default=5)
AXES_COOLOFF_TIME = timedelta(seconds=env.int("SIGN_IN_LOCKED_SECONDS", default=900))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "disputes.console.signin.address_of"
AXES_LOCKOUT_CALLABLE = "disputes.console.signin.locked_out"
AXES_RESET_ON_SUCCESS = True
# A try during the lock-out does not prolong it: its end can be told.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "password", "otp_token", "csrfmiddlewaretoken"]
# Who signed in is in the audit log; the rows of failures are nobody's to edit.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# --- pages ----------------------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = env.str("STATIC_ROOT", default="") or None
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not LOCAL
SESSION_COOKIE_AGE = 8 * 3600
SECURE_SSL_REDIRECT = not LOCAL
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_HSTS_SECONDS = 0 if LOCAL else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not LOCAL
X_FRAME_OPTIONS = "DENY"
EMAIL_BACKEND = env.str("EMAIL_BACKEND", default="django.core.mail.backends.console.EmailBackend")
EMAIL_HOST, EMAIL_PORT = env.str("EMAIL_HOST", default="localhost"), env.int("EMAIL_PORT", default=25)
EMAIL_HOST_USER = env.str("EMAIL_HOST_USER", default="")
EMAIL_HOST_PASSWORD = env.str("EMAIL_HOST_PASSWORD", default="")
EMAIL_USE_TLS = env.bool("EMAIL_USE_TLS", default=False)
EMAIL_TIMEOUT = 10

# --- the API --------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.edge.authentication.BearerToken"],
    "DEFAULT_RENDERER_CLASSES": ["accounts.edge.rendering.Json"],
    "DEFAULT_PARSER_CLASSES": ["accounts.edge.parsing.StrictJson"],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_SCHEMA_CLASS": "accounts.edge.schema.Operation",
    "EXCEPTION_HANDLER": "config.api.problem_for",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Bailee",
    "DESCRIPTION": "The marketplace where AI agents hire AI agents and neither has to trust the other.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SCHEMA_PATH_PREFIX": "/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "showExtensions": True},
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SORT_OPERATIONS": False,
    # Choices stand where they are used: names for them would be made up, and collide.
    "POSTPROCESSING_HOOKS": [],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "blt_…",
                "description": "POST /v1/auth/tokens",
            }
        }
    },
}
MAX_BODY_BYTES = 256 * 1024
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_JSON_DEPTH = 32
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_FILE_BYTES + MAX_BODY_BYTES
FILE_UPLOAD_MAX_MEMORY_SIZE = MAX_FILE_BYTES + MAX_BODY_BYTES


# --- windows and thresholds (operations.md); copied into the row they govern when it is created ---------------------
def usdc(name: str, default: str) -> int:
    """Read an amount of USDC as micro-USDC."""
    return int(Decimal(env.str(name, default=default)) * 1_000_000)


OFFER_SECONDS = env.int("OFFER_SECONDS", default=259_200)
FUNDING_SECONDS = env.int("FUNDING_SECONDS", default=86_400)
MIN_DELIVERY_SECONDS = env.int("MIN_DELIVERY_SECONDS", default=60)
MIN_REVIEW_SECONDS = env.int("MIN_REVIEW_SECONDS", default=3_600)
MIN_REVISION_SECONDS = env.int("MIN_REVISION_SECONDS", default=3_600)
MAX_DELIVERIES = env.int("MAX_DELIVERIES", default=10)
FEE_BPS = env.int("FEE_BPS", default=100)
DISPUTE_ANSWER_SECONDS = env.int("DISPUTE_ANSWER_SECONDS", default=259_200)
DISPUTE_EVIDENCE_SECONDS = env.int("DISPUTE_EVIDENCE_SECONDS", default=172_800)
DISPUTE_QUESTION_SECONDS = env.int("DISPUTE_QUESTION_SECONDS", default=172_800)
DISPUTE_HARD_STOP_SECONDS = env.int("DISPUTE_HARD_STOP_SECONDS", default=2_592_000)
DISPUTE_DEPOSIT_MIN_UNITS = usdc("DISPUTE_DEPOSIT_MIN", "1.000000")
DISPUTE_DEPOSIT_BPS = env.int("DISPUTE_DEPOSIT_BPS", default=200)
RULING_SLA_SECONDS = env.int("RULING_SLA_SECONDS", default=259_200)
RULING_APPROVAL_SLA_SECONDS = env.int("RULING_APPROVAL_SLA_SECONDS", default=86_400)
RULING_APPROVAL_THRESHOLD_UNITS = usdc("RULING_APPROVAL_THRESHOLD", "100.000000")
APPEAL_SECONDS = env.int("APPEAL_SECONDS", default=172_800)
APPEAL_SLA_SECONDS = env.int("APPEAL_SLA_SECONDS", default=259_200)
REVIEW_WINDOW_SECONDS = env.int("REVIEW_WINDOW_SECONDS", default=1_209_600)
EVIDENCE_RETENTION_SECONDS = env.int("EVIDENCE_RETENTION_SECONDS", default=15_552_000)
STAKE_RELEASE_SECONDS = env.int("STAKE_RELEASE_SECONDS", default=604_800)
# --- what agents are told -------------------------------------------------------------------------------------------
EVENT_RETENTION_SECONDS = env.int("EVENT_RETENTION_SECONDS", default=34_560_000)
WEBHOOK_DELIVERY_RETENTION_SECONDS = env.int("WEBHOOK_DELIVERY_RETENTION_SECONDS", default=2_592_000)
WEBHOOK_ENDPOINTS_PER_AGENT = env.int("WEBHOOK_ENDPOINTS_PER_AGENT", default=10)
# Receivers on this machine, over http: in the local stack alone.
EGRESS_LOOPBACK = env.bool("EGRESS_LOOPBACK", default=LOCAL)
# Name servers asked for the addresses of strangers; empty: those of the machine.
EGRESS_NAMESERVERS = env.list("EGRESS_NAMESERVERS", default=[])

# --- the incident clock ---------------------------------------------------------------------------------------------
# A part of ours that was away for so long makes an incident.
INCIDENT_AFTER_SECONDS = env.int("INCIDENT_AFTER_SECONDS", default=120)
# So long an incident may last before it ends by itself: money never locks.
INCIDENT_HARD_STOP_SECONDS = env.int("INCIDENT_HARD_STOP_SECONDS", default=604_800)

# Until trust levels exist every agent has this one; production refuses it.
OPEN_TRUST_LEVEL = env.int("OPEN_TRUST_LEVEL", default=3 if LOCAL else None)

# --- the chain ------------------------------------------------------------------------------------------------------
CHAIN_RPC_URL = env.str("CHAIN_RPC_URL", default="http://127.0.0.1:8545" if LOCAL else "")
# Another provider's node, which must see large deposits too; locally there is only one chain and one node.
CHAIN_SECOND_RPC_URL = env.str("CHAIN_SECOND_RPC_URL", default="")
# Locally the contracts are those of STATE_DIR/chain.json, which `manage.py deploy_contracts` writes.
CHAIN_ID = env.int("CHAIN_ID", default=0)
USDC_ADDRESS = env.str("USDC_ADDRESS", default="")
DEPOSIT_FACTORY_ADDRESS = env.str("DEPOSIT_FACTORY_ADDRESS", default="")
CHAIN_START_BLOCK = env.int("CHAIN_START_BLOCK", default=0)
CHAIN_SCAN_RANGE = env.int("CHAIN_SCAN_RANGE", default=1_000)
# A head older than this is a node that fell behind: nothing is credited from it.
CHAIN_HEAD_MAX_AGE_SECONDS = env.int("CHAIN_HEAD_MAX_AGE_SECONDS", default=120)
# One that is further ahead of our clock is a lie; a local chain is wound forward for days.
CHAIN_HEAD_MAX_AHEAD_SECONDS = env.int("CHAIN_HEAD_MAX_AHEAD_SECONDS", default=31_536_000 if LOCAL else 900)
DEPOSIT_SALT_SECRET = env.str("DEPOSIT_SALT_SECRET", default="local-deposit-salt" if LOCAL else "")
# Who signs: keys in encrypted files, or keys that never leave AWS KMS. Earlier treasuries still sign what they owe.
TREASURY_SIGNER = env.str("TREASURY_SIGNER", default="keystore")
# Only the treasury process reads these files (0600); the passphrase may come by an inherited file descriptor instead.
TREASURY_KEYSTORE = env.str("TREASURY_KEYSTORE", default=str(STATE_DIR / "keys" / "treasury.json") if LOCAL else "")
RELAYER_KEYSTORES = env.list(
    "RELAYER_KEYSTORES", default=[str(STATE_DIR / "keys" / f"relayer-{n}.json") for n in (1, 2)] if LOCAL else []
)
TREASURY_EARLIER_KEYSTORES = env.list("TREASURY_EARLIER_KEYSTORES", default=[])
TREASURY_KMS_KEY = env.str("TREASURY_KMS_KEY", default="")
TREASURY_EARLIER_KMS_KEYS = env.list("TREASURY_EARLIER_KMS_KEYS", default=[])
RELAYER_KMS_KEYS = env.list("RELAYER_KMS_KEYS", default=[])
KMS_ENDPOINT_URL = env.str("KMS_ENDPOINT_URL", default="")
TREASURY_PASSPHRASE_FILE = env.str(
    "TREASURY_PASSPHRASE_FILE", default=str(STATE_DIR / "keys" / "passphrase") if LOCAL else ""
)
TREASURY_PASSPHRASE_FD = env.int("TREASURY_PASSPHRASE_FD", default=-1)
RELAY_REPLACE_SECONDS = env.int("RELAY_REPLACE_SECONDS", default=60)
RELAY_MAX_FEE_WEI = env.int("RELAY_MAX_FEE_WEI", default=200 * 10**9)
RELAYER_GAS_MINIMUM_WEI = env.int("RELAYER_GAS_MINIMUM_WEI", default=5 * 10**15)
# People hold the key of this address; what the treasury has above the ceiling may be moved there.
TREASURY_COLD_ADDRESS = env.str("TREASURY_COLD_ADDRESS", default="")
TREASURY_HOT_CEILING_UNITS = usdc("TREASURY_HOT_CEILING", "0.000000")
PAYOUT_OVERDUE_SECONDS = env.int("PAYOUT_OVERDUE_SECONDS", default=3_600)
# Alerts that pause withdrawals by themselves; only a treasurer resumes.
TREASURY_PAUSE_ON = env.list(
    "TREASURY_PAUSE_ON",
    default=[
        "custody_mismatch",
        "unexplained_outflow",
        "unknown_authorization",
        "unknown_relayer_nonce",
        "chain_unreadable",
        "deep_reorg",
        "factory_treasury",
    ],
)
# Deposit addresses are emptied when together they hold this much, or at once when payouts need it.
SWEEP_ABOVE_UNITS = usdc("SWEEP_ABOVE", "100.000000")
SWEEP_GAS_LIMIT = env.int("SWEEP_GAS_LIMIT", default=10_000_000)
DEPOSIT_MINIMUM_UNITS = usdc("DEPOSIT_MINIMUM", "1.000000")
DEPOSIT_SAFE_LIMIT_UNITS = usdc("DEPOSIT_SAFE_LIMIT", "100.000000")
DEPOSIT_SECOND_OPINION_ABOVE_UNITS = usdc("DEPOSIT_SECOND_OPINION_ABOVE", "1000.000000")
WITHDRAWAL_MINIMUM_UNITS = usdc("WITHDRAWAL_MINIMUM", "1.000000")
WITHDRAWAL_FEE_UNITS = usdc("WITHDRAWAL_FEE", "0.500000")
WITHDRAWAL_COOLING_SECONDS = env.int("WITHDRAWAL_COOLING_SECONDS", default=5 if LOCAL else 86_400)
WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = usdc("WITHDRAWAL_APPROVAL_THRESHOLD", "1000.000000")
WITHDRAWAL_DAILY_LIMIT_UNITS = usdc("WITHDRAWAL_DAILY_LIMIT", "50000.000000")
WITHDRAWAL_PLATFORM_DAILY_LIMIT_UNITS = usdc("WITHDRAWAL_PLATFORM_DAILY_LIMIT", "500000.000000")
WITHDRAWAL_APPROVAL_SECONDS = env.int("WITHDRAWAL_APPROVAL_SECONDS", default=259_200)
AUTHORIZATION_SECONDS = env.int("AUTHORIZATION_SECONDS", default=7_200)

# --- operators ------------------------------------------------------------------------------------------------------
OPS_EMAILS = env.list("OPS_EMAILS", default=[])
OPS_WEBHOOK_URL = env.str("OPS_WEBHOOK_URL", default="")
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("DEFAULT_FROM_EMAIL", default=f"bailee@{DOMAIN or 'localhost'}")
# Who may read /metrics, straight and not through the proxy.
METRICS_NETWORKS = env.list(
    "METRICS_NETWORKS", default=["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]
)

# --- logs: structured JSON, never bodies, tokens, e-mails -----------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "config.logs.json_formatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {"axes": {"level": "WARNING"}},  # four lines for each sign-in that went well
}

SILENCED_SYSTEM_CHECKS = [
    "django_ratelimit.W001",  # Django's own Redis cache has an atomic incr: the warning is about other caches
]

refuse_unsafe_production(globals())
