# ruff: noqa: E501 - a pattern or a sentence is read in one piece
"""Finds, masks and counts direct identifiers in Chinese and English text.

Every pattern has bounded repeats behind a look-behind, so the time is linear in any text. Numbers with a check digit
are checked: identity cards by GB 11643 (ISO 7064 MOD 11-2), bank cards by Luhn (ISO/IEC 7812).

Invariant: `mask` reports counts per kind and never a value. The room's README says what it finds; a name without a cue
("my name is", 收货人) is not found.

>>> mask("mail me: eve@example.com")
('mail me: [email]', {'email': 1})
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from types import MappingProxyType

_I = re.IGNORECASE
_HAN = r"\u4e00-\u9fff"
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔"
    "钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_URL_END = rf"[^\s<>\"'，。；！？、（）【】「」{_HAN}]"
_TLD = r"(?:com|cn|net|org|info|shop|store|top|xyz|io|me|cc|de|uk|eu|site|online)"
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}\s?(?:@|[\[(]at[\])])\s?"
    r"[A-Za-z0-9-]{1,63}(?:(?:\.|\s?[\[(]dot[\])]\s?)[A-Za-z0-9-]{1,63}){1,4}",
    _I,
)
_URL = re.compile(
    rf"(?:https?://|(?<![A-Za-z0-9.])www\.){_URL_END}{{1,2000}}"
    rf"|(?<![A-Za-z0-9@.-])(?:[a-z0-9-]{{1,63}}\.){{1,4}}{_TLD}(?![A-Za-z0-9-])(?:/{_URL_END}{{0,2000}})?",
    _I,
)
_IDENTITY = re.compile(r"(?<![\dA-Za-z])([1-9]\d{5})[ -]?((?:18|19|20)\d{6})[ -]?(\d{3}[\dXx])(?![\dA-Za-z])")
_IDENTITY_CUED = re.compile(
    r"(?:身份证(?:号码|号)?|\bid(?:entity)? card(?: number| no\.?)?)\s{0,2}(?:[:：是为]|is)?\s{0,2}([1-9]\d{13,16}[\dXx])(?!\d)",
    _I,
)
_ORDER = re.compile(
    r"(?:订单编?号?|运单号?|快递单号?|物流单?号?|单号"
    r"|(?<![a-z])(?:order|tracking|parcel|shipment|invoice)(?:\s(?:number|no\.?|nr\.?|id|code))?)"
    r"\s{0,2}(?:[:：#是为]|is|was){0,2}\s{0,2}([A-Za-z]{0,4}-?\d[\dA-Za-z-]{5,30})(?![\dA-Za-z])",
    _I,
)
_COURIER = re.compile(r"(?<![A-Za-z0-9])(?:SF|YT|JDV?|ZTO|STO|EMS|1Z)[A-Z]?\d{10,16}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.-])[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{3,4}(?:[ -]?\d{1,3})?(?![\d])")
_WECHAT = re.compile(
    r"(?:微信|薇信|威信|[vV]信|加[vV]|加微|(?<![A-Za-z])(?:wechat|weixin|wx|vx))"
    r"\s{0,2}(号码?|id)?\s{0,2}([:：是为=]|is)?\s{0,3}([A-Za-z][A-Za-z0-9_-]{5,19}|1[3-9]\d{9})(?![A-Za-z0-9_-])",
    _I,
)
_QQ = re.compile(
    r"(?:(?<![A-Za-z])qq|扣扣)\s{0,2}(?:群|号码?|number|id)?\s{0,2}(?:[:：是为=]|is)?\s{0,3}([1-9]\d{4,11})(?!\d)",
    _I,
)
_MOBILE = re.compile(
    r"(?<![\dA-Za-z.])(?:(?:\+|00)86[- ]?|\(\+?86\)\s?|86[- ])?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d|\.\d)"
)
_PHONES = re.compile(
    r"(?<![\w.])\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}(?!\d)"
    r"|(?<![\d.,-])\(?0\d{1,4}\)?[ /-]\d{3,8}(?:[ -]\d{3,6})?(?!\d)"
    r"|(?<![\d-])[48]00-\d{3,4}-\d{3,4}(?![\d-])"
    r"|(?<![\d-])(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?![\d-])"
)
_PHONE_CUED = re.compile(
    r"(?:电话(?:号码)?|手机号码?|联系方式|联系我|(?<![a-z])(?:tel|telephone|phone(?: number| no)?|whatsapp|(?:call|text|ring) me(?: at| on)?))"
    r"\s{0,2}(?:[:：是为.]|is)?\s{0,2}(\+?\d[\d ()-]{5,16}\d)(?!\d)",
    _I,
)
_ADDRESS_ZH = re.compile(
    rf"[{_HAN}]{{1,18}}(?:路|街|大道|巷|弄|胡同)\s?\d{{1,5}}\s?[号弄](?![线色码机款电])"
    rf"(?:\s?[{_HAN}A-Za-z]{{0,8}}\d{{1,5}}\s?(?:号楼|单元|院|楼|栋|幢|座|室|层|号)){{0,5}}"
    rf"|[{_HAN}]{{2,14}}(?:小区|花园|公寓|苑|大厦|家园|新村|宿舍)\s?[A-Z\d]\d{{0,3}}\s?(?:栋|幢|号楼|座)"
    rf"(?:\s?\d{{1,2}}\s?单元)?(?:\s?\d{{2,5}}\s?[室号]?)?"
)
_ADDRESS_ZH_LEAD = re.compile(r".{0,16}(?:住在|寄到|送到|发到|寄往|搬到|地址[是为]?|位于|家在|我在|快递到)")
_STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Square|Way|Place|Terrace|Close|Crescent)"
_ADDRESS_EN = re.compile(
    rf"(?<![\d.,$€£¥-])\d{{1,5}}[A-Za-z]?\s(?:[A-Z][A-Za-z'’.-]{{0,20}}\s){{1,4}}{_STREET}(?![A-Za-z])\.?"
    r"(?:,?\s(?:Apt|Apartment|Flat|Suite|Unit|#)\.?\s?\w{1,6})?(?:,\s[A-Z][A-Za-z]{1,20}(?:\s[A-Z][A-Za-z]{1,20})?)?"
    r"(?:,?\s(?:[A-Z]{2}\s)?\d{5}(?:-\d{4})?(?!\d)|,?\s[A-Z]{1,2}\d[\dA-Z]?\s\d[A-Z]{2})?"
    r"|(?<![A-Za-z])[A-ZÄÖÜ][A-Za-zäöüß-]{1,30}(?:straße|strasse|str\.|weg|platz|allee|gasse)\s\d{1,4}[a-z]?(?![\dA-Za-z])"
    r"(?:,?\s\d{5}\s[A-ZÄÖÜ][a-zäöüß]{1,20})?"
    r"|(?<![A-Za-z])P\.?O\.? Box \d{1,6}"
)
_NAME = re.compile(
    r"(?:[Mm]y name is|[Ii] am called|(?<![A-Za-z])(?:Name|Recipient|Receiver|Signed|Regards|Sincerely)[:,])\s{1,2}"
    r"([A-Z][a-zäöüéèñ'’-]{1,20}(?:\s[A-Z][A-Za-zäöüéèñ'’-]{0,20}){0,2})"
    rf"|(?:我叫|我的名字[是叫]|姓名[:：是]|收[货件]人[:：是]?|联系人[:：是]?)\s{{0,2}}([{_SURNAMES}][{_HAN}]{{1,2}})"
)
_DATE_LIKE = re.compile(r"(?:19|20)\d{2}-?\d{2}-?\d{2}(?!\d)")

Check = Callable[[re.Match[str]], bool]


def valid_identity(number: str) -> bool:
    """Whether 18 characters are an identity card number: a real date of birth and the right check character."""
    if not re.fullmatch(r"\d{17}[\dXx]", number):
        return False
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


def valid_card(number: str) -> bool:
    """Whether 15 to 19 digits pass Luhn's check."""
    digits = [int(digit) for digit in number]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 15 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _digits(match: re.Match[str]) -> str:
    return re.sub(r"[^\dXx]", "", match.group())


def _is_order(match: re.Match[str]) -> bool:
    number = match.group(1)
    return sum(letter.isdigit() for letter in number) >= 6 and not _DATE_LIKE.match(number)


def _is_wechat(match: re.Match[str]) -> bool:
    marked = match.group(1) or (match.group(2) or "is").lower() != "is"
    return bool(marked) or any(letter.isdigit() or letter == "_" for letter in match.group(3))


def _is_phone(match: re.Match[str]) -> bool:
    return 9 <= len(_digits(match)) <= 15


def _always(match: re.Match[str]) -> bool:
    return True


_RULES: tuple[tuple[str, re.Pattern[str], Check], ...] = (
    ("email", _EMAIL, _always),
    ("url", _URL, _always),
    ("identity_card", _IDENTITY_CUED, _always),
    ("identity_card", _IDENTITY, lambda match: valid_identity(_digits(match))),
    ("order_number", _ORDER, _is_order),
    ("order_number", _COURIER, _always),
    ("bank_card", _CARD, lambda match: valid_card(_digits(match))),
    ("wechat", _WECHAT, _is_wechat),
    ("qq", _QQ, _always),
    ("phone", _MOBILE, _always),
    ("phone", _PHONE_CUED, lambda match: len(re.sub(r"\D", "", match.group(1))) >= 7),
    ("phone", _PHONES, _is_phone),
    ("address", _ADDRESS_ZH, _always),
    ("address", _ADDRESS_EN, _always),
    ("name", _NAME, _always),
)
KINDS: tuple[str, ...] = tuple(dict.fromkeys(kind for kind, _, _ in _RULES))
MARKS = MappingProxyType({kind: f"[{kind}]" for kind in KINDS})
MAYBE = (
    r"[0-9@]|www\.|\(at\)|\[at\]|(?i:微信|薇信|威信|v信|加v|加微|wechat|weixin|wx|vx|my name|i am called|name:|recipient|receiver|"
    r"signed|regards|sincerely|我叫|我的名字|姓名|收货人|收件人|联系人|https?:|\.(?:com|cn|net|org|info|shop|store|top|xyz|io|me|cc|de|uk|eu|site|online))"
)
"""Text without a match of this pattern (fit for Rust's engine) holds nothing that `mask` would find."""


def mask(text: str) -> tuple[str, dict[str, int]]:
    """The text with every identifier replaced by its kind in brackets, and how many of each kind there were."""
    counts: dict[str, int] = {}
    for kind, pattern, check in _RULES:
        text, count = _mask_kind(text, kind, pattern, check)
        if count:
            counts[kind] = counts.get(kind, 0) + count
    return text, counts


def _mask_kind(text: str, kind: str, pattern: re.Pattern[str], check: Check) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if not check(match):
            return match.group()
        count += 1
        start, end = (
            match.span(match.lastindex or 0) if kind not in ("identity_card", "url") else match.span()
        )
        if pattern is _IDENTITY_CUED:
            start, end = match.span(1)
        if pattern is _ADDRESS_ZH and (lead := _ADDRESS_ZH_LEAD.match(match.group())):
            start += lead.end()
        begin, whole = match.start(), match.group()
        return whole[: start - begin] + MARKS[kind] + whole[end - begin :]

    return pattern.sub(replace, text), count
