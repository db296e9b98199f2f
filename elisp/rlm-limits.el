;;; rlm-limits.el --- Change limits while a run goes on  -*- lexical-binding: t; -*-

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

;; `rlm-set-limits' raises or lowers one limit of a live run.  Nothing is
;; sent before the last prompt has been answered, so that C-g leaves
;; everything as it is.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'rlm-run)
(require 'rlm-rpc)

(declare-function rlm-live-run "rlm-commands" ())

(defun rlm-limits-read (limits &optional reason)
  "Let the user choose one of LIMITS, a plist, and its new value.
Return a plist as in the protocol.  If REASON, why a run has ended, names a
limit, that one is proposed at twice its value."
  (let* ((table (mapcar (pcase-lambda (`(,name . ,words))
                          (cons (format "%s (%s)" words
                                        (rlm-run-limit-text name (plist-get limits name)))
                                name))
                        rlm-run-limit-names))
         (reached (rlm-limits--reached reason))
         (choice (completing-read (if reached (format "%s Limit to raise: " reason)
                                    "Limit to change: ")
                                  table nil t nil nil (car (rassq reached table))))
         (name (or (cdr (assoc choice table)) (user-error "No limit")))
         (now (plist-get limits name)))
    (list name (rlm-limits--number
                name (read-number (format "%s, now %s: " (cdr (assq name rlm-run-limit-names))
                                          (rlm-run-limit-text name now))
                                  (if (and now (eq name reached)) (* 2 now) now))))))

(defun rlm-limits--reached (reason)
  "Return the limit that REASON, a sentence of the server, names, or nil."
  (and reason
       (cdr (seq-find (lambda (each) (string-match-p (car each) reason))
                      '(("cost limit" . :cost) ("limit of [0-9,]+ iteration" . :iterations)
                        ("limit of [0-9,]+ sub-call" . :subcalls)
                        ("limit of [0-9,]+ token" . :tokens)
                        ("limit of [0-9.e+]+ s is" . :seconds))))))

(defun rlm-limits--number (name number)
  "Return NUMBER as the limit NAME wants it, or signal what is wrong with it."
  (cond ((memq name '(:seconds :cellSeconds))
         (if (> number 0) number (user-error "It has to be more than nothing")))
        ((< number (if (memq name '(:cost :subcalls)) 0 1))
         (user-error "It has to be at least %d" (if (memq name '(:cost :subcalls)) 0 1)))
        ((eq name :cost) number)
        (t (truncate number))))

;;;###autoload
(defun rlm-set-limits (run limits)
  "Set LIMITS of RUN, which is going on.
Interactively, RUN is that of the current buffer, else the one that is going
on, and you are asked which limit to raise or lower.  From Lisp, LIMITS is a
plist such as (:cost 0.5 :iterations 40); what it does not name stays as it
is.  A limit below what is used already ends the run at its next step, with
the best answer so far."
  (interactive
   (let ((run (progn (require 'rlm) (rlm-live-run))))
     (rlm-limits--check run)
     (list run (rlm-limits-read (rlm-run-limits run)))))
  (rlm-limits--check run)
  (rlm-rpc-request
   'rlm/limits (list :runId (rlm-run-id run) :limits limits)
   :timeout 10
   :success (lambda (result)
              (unless (eq (plist-get result :changed) t)
                (message "The run has ended already")))
   :error (lambda (problem) (message "rlm: %s" (rlm-rpc-error-text problem)))))

(defun rlm-limits--check (run)
  "Signal an error unless RUN is going on."
  (unless (and (rlm-run-live-p run) (rlm-run-limits run))
    (user-error (if (rlm-run-live-p run) "The run has not begun yet"
                  "The run has ended already"))))

(provide 'rlm-limits)
;;; rlm-limits.el ends here
