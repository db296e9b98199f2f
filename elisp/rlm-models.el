;;; rlm-models.el --- The models that there are  -*- lexical-binding: t; -*-

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

;; `rlm-models' lists the models that the server knows, with what they cost
;; and how they do, and follows them while a run is live.  The names are
;; also what is completed when the models of a question are chosen.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'rlm-client)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-table)

(defconst rlm-models--buffer "*rlm models*"
  "Name of the buffer with the list of models.")

(defvar-local rlm-models--status nil
  "The server's status that this buffer shows, a plist.")

;;;; The list

(defvar rlm-models-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'rlm-models-describe)
    map)
  "Keys of `rlm-models-mode'.")

(define-derived-mode rlm-models-mode rlm-table-mode "rlm models"
  "Major mode of the list of models.

\\{rlm-models-mode-map}"
  :interactive nil
  (setq rlm-table-method 'rlm/status
        rlm-table-rows-function #'rlm-models--rows
        rlm-table-live-function #'rlm-models--live-p
        tabulated-list-format
        (rlm-table-columns '("Name" 22) '("Model" 26) '("Source" 11)
                           '("Window" 9 number) '("$/M in" 8 number) '("$/M out" 8 number)
                           '("Key" 11) '("Health" 8) '("Busy" 7 number)
                           '("Waiting" 7 number) '("Latency" 8 number)))
  (tabulated-list-init-header))

;;;###autoload
(defun rlm-models ()
  "List the models that there are: price, key, health, and what they do now.
The list follows them while it is visible and a run is live."
  (interactive)
  (rlm-table-show rlm-models--buffer #'rlm-models-mode))

(defun rlm-models--live-p ()
  "Return non-nil if the server is at a run, also of another Emacs."
  (not (seq-empty-p (plist-get rlm-models--status :liveRuns))))

(defun rlm-models--rows (status)
  "Return a row for each model of STATUS, the server's."
  (setq rlm-models--status status)
  (mapcar #'rlm-models--row (plist-get status :models)))

(defun rlm-models--row (model)
  "Return the row of MODEL, a plist."
  (let ((busy (or (plist-get model :inFlight) 0)))
    (list (plist-get model :name)
          (vector (plist-get model :name)
                  (plist-get model :model)
                  (plist-get model :source)
                  (rlm-table-cell (plist-get model :window))
                  (rlm-models--price (plist-get model :inputPrice))
                  (rlm-models--price (plist-get model :outputPrice))
                  (plist-get model :key)
                  (rlm-models--health (plist-get model :health))
                  (rlm-table-cell busy (format "%d/%d" busy (or (plist-get model :slots) 0)))
                  (rlm-table-cell (or (plist-get model :waiting) 0))
                  (rlm-models--latency (plist-get model :latency))))))

(defun rlm-models--price (price)
  "Return a cell for PRICE, US dollars for a million tokens, or nil."
  (rlm-table-cell price (cond ((null price) "unknown")
                              ((zerop price) "free")
                              (t (format "%.4g" price)))))

(defun rlm-models--latency (seconds)
  "Return a cell for a latency of SECONDS, nil before the first call."
  (rlm-table-cell seconds (if seconds (rlm-figure-seconds seconds) "-")))

(defun rlm-models--health (health)
  "Return a cell for HEALTH, a word of the protocol."
  (propertize (or health "untried")
              'face (pcase health
                      ("ok" 'success)
                      ((or "limited" "trying") 'warning)
                      ((or "down" "no key") 'error)
                      (_ 'default))))

;;;; One model

(defun rlm-models-describe ()
  "Show everything that is known of the model in this line."
  (interactive nil rlm-models-mode)
  (let* ((name (or (tabulated-list-get-id) (user-error "There is no model here")))
         (model (seq-find (lambda (model) (equal name (plist-get model :name)))
                          (plist-get rlm-models--status :models))))
    (with-help-window "*rlm model*"
      (princ (rlm-models--details model)))))

(defun rlm-models--details (model)
  "Return the text on MODEL, a plist."
  (concat
   (mapconcat (pcase-lambda (`(,name . ,value))
                (format "%-12s %s\n" (concat name ":") value))
              (rlm-models--facts model) "")
   (mapconcat #'rlm-models--deployment (plist-get model :deployments) "")))

(defun rlm-models--facts (model)
  "Return an alist of names and facts of MODEL, a plist."
  (let ((row (cadr (rlm-models--row model)))
        (fallbacks (plist-get model :fallbacks))
        (roles (plist-get model :roles)))
    `(("Name" . ,(aref row 0))
      ("Model" . ,(aref row 1))
      ("Provider" . ,(plist-get model :provider))
      ("Source" . ,(aref row 2))
      ("Window" . ,(concat (aref row 3) " tokens"))
      ("Prices" . ,(format "%s in, %s out (US dollars for a million tokens)"
                           (aref row 4) (aref row 5)))
      ("Key" . ,(aref row 6))
      ("Health" . ,(aref row 7))
      ("Busy" . ,(format "%s slots, %s waiting" (aref row 8) (aref row 9)))
      ("Latency" . ,(aref row 10))
      ("Used as" . ,(if (seq-empty-p roles) "nothing by default"
                      (mapconcat #'identity roles ", ")))
      ("Fallbacks" . ,(if (seq-empty-p fallbacks) "none" (mapconcat #'identity fallbacks ", "))))))

(defun rlm-models--deployment (deployment)
  "Return the text on DEPLOYMENT, a plist."
  (let ((detail (plist-get deployment :detail)))
    (format "\n%s (%s)\n  %s, %s; %d/%d slots, %s answered, latency %s%s\n"
            (plist-get deployment :name) (plist-get deployment :address)
            (plist-get deployment :tier) (plist-get deployment :health)
            (plist-get deployment :inFlight) (plist-get deployment :slots)
            (rlm-figure-count (plist-get deployment :calls) "call")
            (rlm-models--latency (plist-get deployment :latency))
            (if (member detail '(nil "")) "" (concat "; " detail)))))

;;;; Choosing

(defconst rlm-models--patience 10
  "Seconds to wait for the names of the models.")

(defun rlm-models-fetch ()
  "Return the models that the server knows, a list of plists.
Wait for them, but not for long; \\[keyboard-quit] quits.  Where they can't be
had, say so and return nil."
  (condition-case problem
      (append (plist-get (rlm-rpc-call 'rlm/status nil rlm-models--patience) :models) nil)
    (rlm-rpc-error
     (message "rlm: the models are not known: %s" (cadr problem))
     nil)))

(defun rlm-models-read (prompt models default)
  "Read with PROMPT the name of one of MODELS, or an id of litellm.
Return DEFAULT if nothing is entered; nil is the server's choice."
  (let* ((completion-extra-properties
          (list :annotation-function (lambda (name) (rlm-models--annotation name models))))
         (name (completing-read (format "%s (default %s): " prompt (or default "the server's choice"))
                                (mapcar (lambda (model) (plist-get model :name))
                                        (seq-remove #'rlm-models--embedding-p models)))))
    (if (string-empty-p name) default name)))

(defun rlm-models--embedding-p (model)
  "Return non-nil if all that MODEL does is to compare questions."
  (equal (append (plist-get model :roles) nil) '("embedding")))

(defun rlm-models--annotation (name models)
  "Return what to show beside NAME, that of one of MODELS."
  (when-let ((model (seq-find (lambda (model) (equal name (plist-get model :name))) models)))
    (let ((row (cadr (rlm-models--row model))))
      (format "  %s, window %s, %s/%s $/M, key %s, %s" (aref row 1) (aref row 3)
              (aref row 4) (aref row 5) (aref row 6) (aref row 7)))))

(provide 'rlm-models)
;;; rlm-models.el ends here
