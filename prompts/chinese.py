"""The words of the variables in Chinese, for templates that use the filter `zh`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_WORDS: Final = {
    **dict(zip(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
               ("周一", "周二", "周三", "周四", "周五", "周六", "周日"), strict=True)),
    **dict(zip(("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
                "November", "December"),
               ("一月", "二月", "三月", "四月", "五月", "六月", "七月", "八月", "九月", "十月", "十一月", "十二月"),
               strict=True)),
    "night": "夜里", "morning": "早上", "afternoon": "下午", "evening": "晚上",
    "winter": "冬天", "spring": "春天", "summer": "夏天", "autumn": "秋天",
    "weekdays": "工作日", "weekends": "周末", "any day": "每天",
    "freezing": "严寒", "cold": "冷", "cool": "凉", "mild": "温和", "warm": "暖", "hot": "热",
    "rain": "雨", "snow": "雪", "windy": "有风", "forecast": "预报",
    "rain began": "开始下雨", "rain ended": "雨停了", "snow began": "开始下雪", "snow ended": "雪停了",
    "warmer": "变暖", "colder": "变冷",
    "day": "白天", "dawn": "黎明", "dusk": "黄昏", "dark": "天黑",
    "moments": "片刻", "same day": "同一天", "same place": "原地", "at home": "在家",
    "north": "北", "north-east": "东北", "east": "东", "south-east": "东南", "south": "南", "south-west": "西南",
    "west": "西", "north-west": "西北",
    "walking": "步行", "cycling": "骑车", "driving": "乘车", "flying": "飞行",
}  # fmt: skip
_UNITS: Final = {
    "minute": "分钟", "hour": "小时", "day": "天", "week": "周", "month": "个月", "km": "公里", "m": "米",
}  # fmt: skip
_HOUR = re.compile(r"\b(night|morning|afternoon|evening) (\d+)\b")
_UNIT = re.compile(r"\b(\d+) (minute|hour|day|week|month|km|m)s?\b")
_WORD = re.compile(r"\b(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")\b")


@lru_cache(4096)
def in_chinese(text: object) -> str:
    """Words of a variable in Chinese: 'morning 8, evening 7' as '早上8点, 晚上7点'; others stay as they are."""
    said = _HOUR.sub(lambda found: f"{_WORDS[found[1]]}{found[2]}点", "" if text is None else str(text))
    said = _UNIT.sub(lambda found: f"{found[1]}{_UNITS[found[2]]}", said)
    return _WORD.sub(lambda found: _WORDS[found[1]], said)
