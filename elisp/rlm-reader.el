;;; rlm-reader.el --- Those who read in a buffer while it is drawn  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; A node grows where the next one begins.  Who is at the heading of that one
;; stays there, and nothing is folded away in which somebody reads.

;;; Code:

(require 'cl-lib)
(require 'seq)

(cl-defstruct (rlm-reader (:constructor rlm-reader--make) (:copier nil))
  "A window whose point is in a buffer, or the buffer itself."
  window                      ; nil for the buffer itself
  seen                        ; whether the text there was shown
  place after                 ; markers, before and behind what is inserted there
  line)                       ; how the line begins, if this is where it does

(defvar rlm-reader-all nil
  "The readers of the current buffer while it is drawn.")

(defun rlm-reader-make (window)
  "Return the reader WINDOW; nil is the current buffer itself."
  (save-excursion
    (when window
      (goto-char (window-point window)))
    (rlm-reader--make :window window :seen (rlm-reader--sees-p)
                      :place (point-marker) :after (copy-marker (point) t)
                      :line (and (bolp) (not (eolp))
                                 (buffer-substring-no-properties
                                  (point) (min (+ (point) 40) (line-end-position)))))))

(defun rlm-reader--sees-p ()
  "Return non-nil if the text around point is shown, not only where a fold ends."
  (not (or (invisible-p (point))
           (and (eolp) (not (bobp)) (invisible-p (1- (point)))))))

(defun rlm-reader--now (reader)
  "Return where READER is now: at the same line, where that is still there."
  (let ((after (rlm-reader-after reader)))
    (if (and (rlm-reader-line reader) (< (rlm-reader-place reader) after)
             (save-excursion
               (goto-char after)
               (looking-at-p (regexp-quote (rlm-reader-line reader)))))
        after
      (rlm-reader-place reader))))

(defun rlm-reader-between-p (beg end)
  "Return non-nil if the reader of a window is between BEG and END."
  (seq-some (lambda (reader)
              (and (rlm-reader-window reader) (rlm-reader-seen reader)
                   (< beg (rlm-reader--now reader) end)))
            rlm-reader-all))

(defun rlm-reader-release (reader)
  "Move READER to where it is now, and let go of its markers."
  (let ((now (marker-position (rlm-reader--now reader)))
        (window (rlm-reader-window reader)))
    (cond ((null window) (goto-char now))
          ((/= now (window-point window)) (set-window-point window now)))
    (set-marker (rlm-reader-place reader) nil)
    (set-marker (rlm-reader-after reader) nil)))

(provide 'rlm-reader)
;;; rlm-reader.el ends here
